// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {AccessCredentialNFT} from "../src/AccessCredentialNFT.sol";
import {BrokerRequests} from "../src/BrokerRequests.sol";
import {IAccessCredentialNFT} from "../src/interfaces/IAccessCredentialNFT.sol";
import {DataContracts} from "../src/lib/DataContracts.sol";
import {NftProbe} from "../src/lib/NftProbe.sol";
import {Test} from "./Test.sol";
import {IERC4906} from "@openzeppelin/contracts/interfaces/IERC4906.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ERC721Enumerable} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721Enumerable.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";

contract AccessCredentialNFTTest is Test {
    uint256 private constant START = 1_770_000_000;
    uint256 private constant EXPIRES = START + 30 days;
    bytes private constant ENCRYPTED = hex"000102030405060708090a0bc0ffee";
    string private constant SECRET = "libpam-web3:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed:1f";

    AccessCredentialNFT private _nft;
    address private _buyer = _wallet("buyer");
    address private _minter = _wallet("minter");
    address private _stranger = _wallet("stranger");

    function setUp() external {
        vm.warp(START);
        _nft = new AccessCredentialNFT("BlockHost Access", "BHAC", "");
        _nft.setMinter(_minter);
    }

    function test_constructor_names() external {
        AccessCredentialNFT nft = new AccessCredentialNFT("BlockhostAccess", "BHA", "ipfs://image");
        vm.assertEq(nft.name(), "BlockhostAccess", "name");
        vm.assertEq(nft.symbol(), "BHA", "symbol");
        vm.assertEq(nft.defaultImageUri(), "ipfs://image", "image");
        vm.assertEq(nft.owner(), address(this), "owner");
        vm.assertEq(nft.minter(), address(0), "no minter at first");
    }

    function test_abi_isThatOfTheField() external pure {
        vm.assertEq(bytes32(IAccessCredentialNFT.mint.selector), bytes32(bytes4(0x2648b0ed)), "mint");
        vm.assertEq(bytes32(IAccessCredentialNFT.updateUserEncrypted.selector), bytes32(bytes4(0x804a083e)), "update");
        vm.assertEq(bytes32(IAccessCredentialNFT.getAccessData.selector), bytes32(bytes4(0x3d79e350)), "getAccessData");
        vm.assertEq(bytes32(AccessCredentialNFT.tokenURI.selector), bytes32(bytes4(0xc87b56dd)), "tokenURI");
        bytes32 minted = IAccessCredentialNFT.CredentialMinted.selector;
        vm.assertEq(minted >> 224, bytes32(uint256(0xf34846eb)), "CredentialMinted");
        vm.assertEq(minted & bytes32(uint256(0xffff)), bytes32(uint256(0xe1c9)), "CredentialMinted");
        bytes32 updated = IAccessCredentialNFT.CredentialUpdated.selector;
        vm.assertEq(updated >> 224, bytes32(uint256(0xaf546e68)), "CredentialUpdated");
        vm.assertEq(updated & bytes32(uint256(0xffff)), bytes32(uint256(0x2c34)), "CredentialUpdated");
    }

    // ---- mint

    function test_mint_gives() external {
        vm.expectEmit(address(_nft));
        emit IERC721.Transfer(address(0), _buyer, 0);
        vm.expectEmit(address(_nft));
        emit IAccessCredentialNFT.CredentialMinted(0, _buyer, START, EXPIRES);
        vm.assertEq(_mint(_buyer), 0, "first id");
        vm.assertEq(_mint(_buyer), 1, "second id");
        vm.assertEq(_nft.ownerOf(1), _buyer, "holder");
        vm.assertEq(_nft.balanceOf(_buyer), 2, "balance");
        _assertData(1, ENCRYPTED, SECRET, START, EXPIRES);
    }

    function test_mint_byTheMinter() external {
        vm.prank(_minter);
        vm.assertEq(_mint(_buyer), 0, "id");
    }

    function test_mint_revertsForOthers() external {
        vm.prank(_buyer);
        vm.expectRevert(_notMinter(_buyer));
        _nft.mint(_buyer, ENCRYPTED, SECRET, "", "", "", 0);
    }

    function test_mint_toContractThatTakesNoTokens() external {
        vm.assertEq(_nft.ownerOf(_mint(address(this))), address(this), "holder");
    }

    function test_mint_revertsForNobody() external {
        vm.expectRevert(abi.encodeWithSignature("ERC721InvalidReceiver(address)", address(0)));
        _nft.mint(address(0), ENCRYPTED, SECRET, "", "", "", 0);
    }

    function test_mint_revertsWithExpiryTooFar() external {
        _nft.mint(_buyer, ENCRYPTED, SECRET, "", "", "", type(uint40).max);
        vm.expectRevert(abi.encodeWithSelector(IAccessCredentialNFT.ExpiryTooFar.selector, 2 ** 40, type(uint40).max));
        _nft.mint(_buyer, ENCRYPTED, SECRET, "", "", "", 2 ** 40);
    }

    function test_mint_takesTextsUpToTheLimitOfCode() external {
        bytes memory longest = _bytes(1, 24_565);
        _nft.mint(_buyer, longest, "", "", "", "", 0);
        _assertData(0, longest, "", START, 0);
        vm.expectRevert(abi.encodeWithSelector(DataContracts.DataContractFailed.selector, 24_576));
        _nft.mint(_buyer, longest, "x", "", "", "", 0);
    }

    function test_mint_neverCutsALength() external {
        // 65,536 bytes: their length's last two bytes are zero.
        vm.expectRevert(abi.encodeWithSelector(DataContracts.DataContractFailed.selector, 65_546));
        _nft.mint(_buyer, new bytes(65_536), "", "", "", "", 0);
    }

    function test_fuzz_mint(address to, bytes memory encrypted, string memory secret, uint256 expires) external {
        vm.assume(to != address(0));
        expires = _bound(expires, 0, type(uint40).max);
        _mint(_stranger);
        uint256 tokenId = _nft.mint(to, encrypted, secret, "text", "", "", expires);
        vm.assertEq(_nft.ownerOf(tokenId), to, "holder");
        _assertData(tokenId, encrypted, secret, START, expires);
    }

    // ---- mintBatch

    function test_mintBatch_gives() external {
        vm.prank(_minter);
        uint256[] memory ids = _mintBatch(2, 7);
        vm.assertEq(ids.length, 2, "as many");
        vm.assertEq(ids[1], 1, "second id");
        vm.assertEq(_nft.ownerOf(0), address(1), "first");
        vm.assertEq(_nft.ownerOf(1), address(2), "second");
        _assertData(1, hex"02", "s", START, 2);
        vm.assertEq(
            _nft.tokenURI(1),
            _uri(
                '{"name":"Access Credential #1","description":"d","image":"i","animation_url":"data:text/html;base64,a","attributes":[{"trait_type":"Type","value":"Access Credential"},{"display_type":"date","trait_type":"Issued","value":1770000000},{"display_type":"date","trait_type":"Expires","value":2}],"access":{"user_encrypted":"0x02","public_secret":"s"}}'
            ),
            "uri"
        );
    }

    function test_mintBatch_ofNone() external {
        vm.assertEq(_mintBatch(0, 7).length, 0, "none");
    }

    function test_mintBatch_revertsWithArrayLengthMismatch() external {
        for (uint256 shorter = 1; shorter < 7; shorter++) {
            (address[] memory to, bytes[] memory b, string[][4] memory t, uint256[] memory e) = _batch(2, shorter);
            vm.expectRevert("Array length mismatch");
            _nft.mintBatch(to, b, t[0], t[1], t[2], t[3], e);
        }
    }

    function test_mintBatch_revertsForOthers() external {
        (address[] memory to, bytes[] memory b, string[][4] memory t, uint256[] memory e) = _batch(1, 7);
        vm.prank(_buyer);
        vm.expectRevert(_notMinter(_buyer));
        _nft.mintBatch(to, b, t[0], t[1], t[2], t[3], e);
    }

    function test_fuzz_mintBatch(uint256 length) external {
        length = _bound(length, 1, 20);
        uint256[] memory ids = _mintBatch(length, 7);
        for (uint256 i = 0; i < length; i++) {
            vm.assertEq(_nft.ownerOf(ids[i]), address(uint160(i + 1)), "holder");
            _assertData(ids[i], abi.encodePacked(uint8(i + 1)), "s", START, i + 1);
        }
    }

    // ---- updates

    function test_updateUserEncrypted_replaces() external {
        uint256 tokenId = _mint(_buyer);
        _mint(_buyer);
        vm.expectEmit(address(_nft));
        emit IAccessCredentialNFT.CredentialUpdated(tokenId);
        vm.expectEmit(address(_nft));
        emit IERC4906.MetadataUpdate(tokenId);
        vm.prank(_minter);
        _nft.updateUserEncrypted(tokenId, hex"beef");
        _assertData(tokenId, hex"beef", SECRET, START, EXPIRES);
        _assertData(1, ENCRYPTED, SECRET, START, EXPIRES);
        vm.assertEq(_mint(_buyer), 2, "next");
        _assertData(2, ENCRYPTED, SECRET, START, EXPIRES);
    }

    function test_fuzz_updateUserEncrypted(uint256 count, uint256 which, bytes memory encrypted) external {
        count = _bound(count, 1, 200);
        for (uint256 i = 0; i < count; i++) {
            _mint(_buyer);
        }
        uint256 tokenId = which % count;
        _nft.updateUserEncrypted(tokenId, encrypted);
        _assertData(tokenId, encrypted, SECRET, START, EXPIRES);
    }

    function test_updateUserEncrypted_reverts() external {
        vm.expectRevert("Token does not exist");
        _nft.updateUserEncrypted(0, ENCRYPTED);
        _mint(_buyer);
        vm.prank(_buyer);
        vm.expectRevert(_notMinter(_buyer));
        _nft.updateUserEncrypted(0, ENCRYPTED);
    }

    function test_updateExpiration_replaces() external {
        _mint(_buyer);
        vm.expectEmit(address(_nft));
        emit IAccessCredentialNFT.CredentialUpdated(0);
        vm.expectEmit(address(_nft));
        emit IERC4906.MetadataUpdate(0);
        vm.prank(_minter);
        _nft.updateExpiration(0, START + 1);
        _assertData(0, ENCRYPTED, SECRET, START, START + 1);
        vm.assertFalse(_nft.isExpired(0), "not yet");
        vm.warp(START + 1);
        vm.assertFalse(_nft.isExpired(0), "in its last second");
        vm.warp(START + 2);
        vm.assertTrue(_nft.isExpired(0), "expired");
        _nft.updateExpiration(0, 0);
        vm.assertFalse(_nft.isExpired(0), "never expires");
    }

    function test_fuzz_updateExpiration(uint256 expires, uint256 now_) external {
        expires = _bound(expires, 0, type(uint40).max);
        now_ = _bound(now_, START, START + 365 days);
        _mint(_buyer);
        _nft.updateExpiration(0, expires);
        vm.warp(now_);
        vm.assertTrue(_nft.isExpired(0) == (expires != 0 && now_ > expires), "isExpired");
    }

    function test_updateExpiration_reverts() external {
        vm.expectRevert("Token does not exist");
        _nft.updateExpiration(0, 1);
        _mint(_buyer);
        vm.expectRevert(abi.encodeWithSelector(IAccessCredentialNFT.ExpiryTooFar.selector, 2 ** 40, type(uint40).max));
        _nft.updateExpiration(0, 2 ** 40);
        vm.prank(_buyer);
        vm.expectRevert(_notMinter(_buyer));
        _nft.updateExpiration(0, 1);
    }

    function test_updateAnimationUrl_replaces() external {
        _mint(_buyer);
        vm.expectEmit(address(_nft));
        emit IAccessCredentialNFT.CredentialUpdated(0);
        vm.expectEmit(address(_nft));
        emit IERC4906.MetadataUpdate(0);
        _nft.updateAnimationUrl(0, "PGI+");
        vm.assertTrue(_contains(_nft.tokenURI(0), '"animation_url":"data:text/html;base64,PGI+"'), "replaced");
        _assertData(0, ENCRYPTED, SECRET, START, EXPIRES);
    }

    function test_fuzz_updateAnimationUrl(uint256 length) external {
        _mint(_buyer);
        string memory url = Base64.encode(_bytes(length, length % 600));
        _nft.updateAnimationUrl(0, url);
        vm.assertTrue(_contains(_nft.tokenURI(0), url), "replaced");
    }

    function test_updateAnimationUrl_reverts() external {
        vm.expectRevert("Token does not exist");
        _nft.updateAnimationUrl(0, "");
        _mint(_buyer);
        vm.prank(_minter);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", _minter));
        _nft.updateAnimationUrl(0, "");
    }

    function test_setDefaultImageUri_replaces() external {
        vm.recordLogs();
        _nft.setDefaultImageUri("ipfs://a");
        vm.assertEq(vm.getRecordedLogs().length, 0, "there is no token to update");
        _mint(_buyer);
        _nft.mint(_buyer, ENCRYPTED, SECRET, "", "ipfs://own", "", 0);
        vm.expectEmit(address(_nft));
        emit IERC4906.BatchMetadataUpdate(0, 1);
        _nft.setDefaultImageUri("ipfs://b");
        vm.assertEq(_nft.defaultImageUri(), "ipfs://b", "default");
        vm.assertTrue(_contains(_nft.tokenURI(0), '"image":"ipfs://b"'), "of tokens without one");
        vm.assertTrue(_contains(_nft.tokenURI(1), '"image":"ipfs://own"'), "not of others");
    }

    function test_fuzz_setDefaultImageUri(string memory uri) external {
        _nft.setDefaultImageUri(uri);
        vm.assertEq(_nft.defaultImageUri(), uri, "default");
    }

    function test_setDefaultImageUri_revertsForOthers() external {
        vm.prank(_minter);
        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", _minter));
        _nft.setDefaultImageUri("");
    }

    function test_setMinter_replaces() external {
        vm.expectEmit(address(_nft));
        emit IAccessCredentialNFT.MinterChanged(_minter, _stranger);
        _nft.setMinter(_stranger);
        vm.assertEq(_nft.minter(), _stranger, "minter");
        vm.prank(_minter);
        vm.expectRevert(_notMinter(_minter));
        _nft.mint(_buyer, ENCRYPTED, SECRET, "", "", "", 0);
    }

    function test_fuzz_setMinter(address minter) external {
        _nft.setMinter(minter);
        vm.prank(minter);
        vm.assertEq(_mint(_buyer), 0, "mints");
        vm.prank(_buyer);
        vm.expectRevert();
        _nft.setMinter(_buyer);
    }

    // ---- metadata

    function test_tokenURI_tells() external {
        _nft.mint(_buyer, hex"c0ffee", SECRET, "blockhost-001", "", "", 0);
        string memory json = string.concat(
            '{"name":"Access Credential #0","description":"blockhost-001",',
            '"attributes":[{"trait_type":"Type","value":"Access Credential"},',
            '{"display_type":"date","trait_type":"Issued","value":1770000000}],',
            '"access":{"user_encrypted":"0xc0ffee","public_secret":"',
            SECRET,
            '"}}'
        );
        vm.assertEq(_nft.tokenURI(0), _uri(json), "uri");
    }

    function test_tokenURI_escapes() external {
        string memory nasty = 'a"b\\c\n\x01</script>';
        string memory escaped = 'a\\"b\\\\c\\n\\u0001</script>';
        _nft.mint(_buyer, "", nasty, nasty, nasty, nasty, 0);
        string memory uri = _nft.tokenURI(0);
        vm.assertTrue(_contains(uri, string.concat('"description":"', escaped, '",')), "description");
        vm.assertTrue(_contains(uri, string.concat('"image":"', escaped, '",')), "image");
        vm.assertTrue(_contains(uri, string.concat("base64,", escaped, '",')), "animation");
        vm.assertTrue(_contains(uri, string.concat('"public_secret":"', escaped, '"}')), "secret");
    }

    function test_views_revertForMissingTokens() external {
        vm.expectRevert("Token does not exist");
        _nft.tokenURI(0);
        vm.expectRevert("Token does not exist");
        _nft.getAccessData(0);
        vm.expectRevert("Token does not exist");
        _nft.isExpired(0);
    }

    function test_supportsInterface() external view {
        bytes4[5] memory ids = [bytes4(0x01ffc9a7), 0x80ac58cd, 0x5b5e139f, 0x780e9d63, 0x49064906];
        for (uint256 i = 0; i < ids.length; i++) {
            vm.assertTrue(_nft.supportsInterface(ids[i]), "supported");
        }
        vm.assertFalse(_nft.supportsInterface(0xffffffff), "not that");
    }

    // ---- enumeration

    function test_enumeration_listsHolders() external {
        for (uint256 i = 0; i < 3; i++) {
            _mint(_buyer);
        }
        vm.prank(_buyer);
        _nft.transferFrom(_buyer, _stranger, 0);
        vm.assertEq(_nft.tokenOfOwnerByIndex(_buyer, 0), 2, "the last took the place");
        vm.assertEq(_nft.tokenOfOwnerByIndex(_buyer, 1), 1, "the other stays");
        vm.assertEq(_nft.tokenOfOwnerByIndex(_stranger, 0), 0, "arrived");
        vm.assertEq(_nft.totalSupply(), 3, "all");
        vm.assertEq(_nft.tokenByIndex(2), 2, "by index");
    }

    function test_enumeration_revertsOutOfBounds() external {
        _mint(_buyer);
        vm.expectRevert(abi.encodeWithSelector(ERC721Enumerable.ERC721OutOfBoundsIndex.selector, address(0), 1));
        _nft.tokenByIndex(1);
        vm.expectRevert(abi.encodeWithSelector(ERC721Enumerable.ERC721OutOfBoundsIndex.selector, _buyer, 1));
        _nft.tokenOfOwnerByIndex(_buyer, 1);
    }

    function test_fuzz_enumeration(uint256[24] memory seeds) external {
        for (uint256 i = 0; i < 8; i++) {
            _mint(_wallet(seeds[i] % 2 == 0 ? "a" : "b"));
        }
        for (uint256 i = 8; i < 24; i++) {
            uint256 tokenId = seeds[i] % 8;
            address from = _nft.ownerOf(tokenId);
            vm.prank(from);
            _nft.transferFrom(from, _wallet(["a", "b", "c"][(seeds[i] >> 8) % 3]), tokenId);
        }
        uint256 listed = 0;
        for (uint256 h = 0; h < 3; h++) {
            address holder = _wallet(["a", "b", "c"][h]);
            uint256 seen;
            for (uint256 i = 0; i < _nft.balanceOf(holder); i++) {
                uint256 tokenId = _nft.tokenOfOwnerByIndex(holder, i);
                vm.assertEq(_nft.ownerOf(tokenId), holder, "listed under its holder");
                vm.assertEq(seen >> tokenId & 1, 0, "once");
                seen |= 2 ** tokenId;
                listed++;
            }
        }
        vm.assertEq(listed, 8, "all are listed");
    }

    // ---- ownership

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

    function test_renounceOwnership_reverts() external {
        vm.expectRevert(abi.encodeWithSelector(IAccessCredentialNFT.OwnerRequired.selector));
        _nft.renounceOwnership();
    }

    // ---- short forms

    function _mint(address to) private returns (uint256) {
        return _nft.mint(to, ENCRYPTED, SECRET, "", "", "", EXPIRES);
    }

    /// @dev Lists of `length`; the `shorter`th of the seven one less.
    function _batch(uint256 length, uint256 shorter)
        private
        pure
        returns (address[] memory to, bytes[] memory encrypted, string[][4] memory texts, uint256[] memory expires)
    {
        to = new address[](length);
        encrypted = new bytes[](length - (shorter == 1 ? 1 : 0));
        for (uint256 k = 0; k < 4; k++) {
            texts[k] = new string[](length - (shorter == k + 2 ? 1 : 0));
            for (uint256 i = 0; i < texts[k].length; i++) {
                texts[k][i] = ["s", "d", "i", "a"][k];
            }
        }
        expires = new uint256[](length - (shorter == 6 ? 1 : 0));
        for (uint256 i = 0; i < length; i++) {
            to[i] = address(uint160(i + 1));
            if (i < encrypted.length) encrypted[i] = abi.encodePacked(uint8(i + 1));
            if (i < expires.length) expires[i] = i + 1;
        }
    }

    function _mintBatch(uint256 length, uint256 shorter) private returns (uint256[] memory) {
        (address[] memory to, bytes[] memory b, string[][4] memory t, uint256[] memory e) = _batch(length, shorter);
        return _nft.mintBatch(to, b, t[0], t[1], t[2], t[3], e);
    }

    function _assertData(uint256 tokenId, bytes memory encrypted, string memory secret, uint256 issued, uint256 expires)
        private
        view
    {
        bytes memory expected = abi.encode(encrypted, secret, issued, expires);
        (bool ok, bytes memory answer) =
            address(_nft).staticcall(abi.encodeCall(IAccessCredentialNFT.getAccessData, (tokenId)));
        vm.assertTrue(ok, "answers");
        vm.assertEq(answer, expected, "access data");
    }

    function _notMinter(address caller) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessCredentialNFT.NotMinter.selector, caller);
    }

    function _uri(string memory json) private pure returns (string memory) {
        return string.concat("data:application/json;base64,", Base64.encode(bytes(json)));
    }

    /// @dev Whether the JSON in a data: URI has `part` in it.
    function _contains(string memory uri, string memory part) private pure returns (bool) {
        bytes memory text = bytes(uri);
        bytes memory encoded = new bytes(text.length - 29);
        for (uint256 i = 0; i < encoded.length; i++) {
            encoded[i] = text[i + 29];
        }
        bytes memory json = Base64.decode(string(encoded));
        bytes memory wanted = bytes(part);
        for (uint256 start = 0; start + wanted.length <= json.length; start++) {
            uint256 i = 0;
            while (i < wanted.length && json[start + i] == wanted[i]) i++;
            if (i == wanted.length) return true;
        }
        return false;
    }
}
