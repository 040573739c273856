// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {AccessCredentialNFT} from "../src/AccessCredentialNFT.sol";
import {BrokerRequests} from "../src/BrokerRequests.sol";
import {NftProbe} from "../src/lib/NftProbe.sol";
import {Test} from "./Test.sol";

contract AccessCredentialNFTTest is Test {
    AccessCredentialNFT private _nft = new AccessCredentialNFT();
    address private _buyer = _wallet("buyer");

    function test_mint_gives() external {
        vm.assertEq(_nft.mint(_buyer), 0, "first id");
        vm.assertEq(_nft.mint(_buyer), 1, "second id");
        vm.assertEq(_nft.ownerOf(1), _buyer, "holder");
        vm.assertEq(_nft.balanceOf(_buyer), 2, "balance");
        vm.assertEq(_nft.nextTokenId(), 2, "next");
    }

    function test_mint_revertsForOthers() external {
        vm.prank(_buyer);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", _buyer));
        _nft.mint(_buyer);
    }

    function test_mint_revertsForContractThatTakesNoTokens() external {
        vm.expectRevert(abi.encodeWithSignature("ERC721InvalidReceiver(address)", address(this)));
        _nft.mint(address(this));
    }

    function test_fuzz_mint(address to) external {
        vm.assume(to != address(0) && to.code.length == 0);
        uint256 tokenId = _nft.mint(to);
        vm.assertEq(_nft.ownerOf(tokenId), to, "holder");
    }

    function test_owner_isWhoBrokersRecognise() external {
        vm.assertTrue(NftProbe.isErc721(address(_nft)), "ERC-721");
        vm.assertEq(NftProbe.findOwner(address(_nft)), address(this), "owner");
        vm.assertEq(new BrokerRequests().submitRequest(address(_nft), hex"01"), 1, "accepted");
    }

    function test_transferOwnership_needsAcceptance() external {
        _nft.transferOwnership(_buyer);
        vm.assertEq(_nft.owner(), address(this), "not yet");
        vm.prank(_buyer);
        _nft.acceptOwnership();
        vm.assertEq(_nft.owner(), _buyer, "now");
    }
}
