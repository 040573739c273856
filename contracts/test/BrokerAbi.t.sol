// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {BrokerRegistry} from "../src/BrokerRegistry.sol";
import {BrokerRequests} from "../src/BrokerRequests.sol";
import {IBrokerRegistry} from "../src/interfaces/IBrokerRegistry.sol";
import {IBrokerRequests} from "../src/interfaces/IBrokerRequests.sol";
import {PlainNft} from "./Nfts.sol";
import {Test} from "./Test.sol";
import {BrokerRegistryV1} from "./legacy/BrokerRegistryV1.sol";
import {BrokerRequestsV1} from "./legacy/BrokerRequestsV1.sol";
import {BrokerRequestsV2} from "./legacy/BrokerRequestsV2.sol";

/// @dev The selectors and topics that tools in the field use, as published for the first and second generation.
/// The fixtures that stand in for these must have the same.
contract BrokerAbiTest is Test {
    /// @dev The base point of secp256k1.
    bytes private constant PUBKEY =
        hex"0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

    BrokerRegistryV1 private _registryV1 = new BrokerRegistryV1();
    BrokerRequestsV1 private _requestsV1 = new BrokerRequestsV1();
    BrokerRequestsV2 private _requestsV2 = new BrokerRequestsV2();

    function test_registry_hasSelectorsOfTheField() external view {
        _is(IBrokerRegistry.registerBroker.selector, _registryV1.registerBroker.selector, 0x974e6ceb);
        _is(IBrokerRegistry.updateEncryptionPubkey.selector, _registryV1.updateEncryptionPubkey.selector, 0xfc6e3355);
        _is(IBrokerRegistry.updateRegion.selector, _registryV1.updateRegion.selector, 0xb4f9c5ba);
        _is(IBrokerRegistry.updateCapacity.selector, _registryV1.updateCapacity.selector, 0xe4e6a86a);
        _is(IBrokerRegistry.updateLoad.selector, _registryV1.updateLoad.selector, 0x43ca87ba);
        _is(IBrokerRegistry.deactivate.selector, _registryV1.deactivate.selector, 0x51b42b00);
        _is(IBrokerRegistry.activate.selector, _registryV1.activate.selector, 0x0f15f4c0);
        _is(IBrokerRegistry.getBroker.selector, _registryV1.getBroker.selector, 0x0257f38d);
        _is(IBrokerRegistry.getBrokerCount.selector, _registryV1.getBrokerCount.selector, 0x80820523);
        _is(IBrokerRegistry.isOperator.selector, _registryV1.isOperator.selector, 0x6d70f7ae);
        _is(IBrokerRegistry.removeBroker.selector, _registryV1.removeBroker.selector, 0x744a64d0);
        _is(IBrokerRegistry.brokers.selector, _registryV1.brokers.selector, 0xd5221cc1);
        _is(IBrokerRegistry.operatorToBrokerId.selector, _registryV1.operatorToBrokerId.selector, 0xf8ad3021);
        _is(
            IBrokerRegistry.requestsContractToBrokerId.selector,
            _registryV1.requestsContractToBrokerId.selector,
            0x8a29c8cd
        );
    }

    function test_requests_haveSelectorsOfTheFirstGeneration() external view {
        _is(IBrokerRequests.submitRequest.selector, _requestsV1.submitRequest.selector, 0x0f9dd2c8);
        _is(IBrokerRequests.submitResponse.selector, _requestsV1.submitResponse.selector, 0xd2a9713c);
        _is(IBrokerRequests.markExpired.selector, _requestsV1.markExpired.selector, 0x681475e8);
        _is(IBrokerRequests.releaseAllocation.selector, _requestsV1.releaseAllocation.selector, 0xbb30d796);
        _is(IBrokerRequests.getRequest.selector, _requestsV1.getRequest.selector, 0xc58343ef);
        _is(IBrokerRequests.getRequestCount.selector, _requestsV1.getRequestCount.selector, 0x3fad1834);
        _is(
            IBrokerRequests.setRequestExpirationTime.selector, _requestsV1.setRequestExpirationTime.selector, 0x7919b3c5
        );
        _is(IBrokerRequests.requests.selector, _requestsV1.requests.selector, 0x81d12c58);
        _is(IBrokerRequests.nftContractToRequestId.selector, _requestsV1.nftContractToRequestId.selector, 0xeba4d1f4);
        _is(IBrokerRequests.requesterToRequestIds.selector, _requestsV1.requesterToRequestIds.selector, 0xfc2304a5);
        _is(IBrokerRequests.requestExpirationTime.selector, _requestsV1.requestExpirationTime.selector, 0x9e5fc10c);
    }

    function test_requests_haveSelectorsOfTheSecondGeneration() external view {
        _is(IBrokerRequests.totalCapacity.selector, _requestsV2.totalCapacity.selector, 0x2f91f1f4);
        _is(IBrokerRequests._activeCount.selector, _requestsV2._activeCount.selector, 0xef1c32da);
        _is(IBrokerRequests._pendingCount.selector, _requestsV2._pendingCount.selector, 0xa72e2bbb);
        _is(IBrokerRequests.setTotalCapacity.selector, _requestsV2.setTotalCapacity.selector, 0x3767ea7e);
        _is(IBrokerRequests.getAvailableCapacity.selector, _requestsV2.getAvailableCapacity.selector, 0x370dad80);
    }

    function test_requests_haveTopicsOfTheField() external pure {
        vm.assertEq(
            IBrokerRequests.RequestSubmitted.selector,
            0x588d8c611bb7c755c22039af038027c7d3747cba3f45b39fbfb980b2f9310fc3,
            "RequestSubmitted"
        );
        vm.assertEq(
            IBrokerRequests.ResponseSubmitted.selector,
            0xb06857aaa0f74e2b056d38c0a8f0737af51078e00edda0793e631875c68b28c6,
            "ResponseSubmitted"
        );
        vm.assertEq(
            IBrokerRequests.RequestExpired.selector,
            0x156422928a222d0605f7c85c73de1c726451b2032677324e1d205c5c26937c57,
            "RequestExpired"
        );
    }

    function test_getRequest_answersLikeTheField() external {
        PlainNft nft = new PlainNft(address(this));
        BrokerRequests requests = new BrokerRequests();
        bytes memory payload = _bytes(1, 368);
        requests.submitRequest(address(nft), payload);
        _requestsV1.submitRequest(address(nft), payload);
        vm.warp(block.timestamp + 30);
        requests.submitResponse(1, _bytes(2, 277));
        _requestsV1.submitResponse(1, _bytes(2, 277));
        bytes memory question = abi.encodeCall(IBrokerRequests.getRequest, (1));
        bytes memory answer = _ask(address(requests), question);
        vm.assertEq(answer, _ask(address(_requestsV1), question), "same bytes");
        // Clients of the field tell the generations by this offset.
        vm.assertEq(_word(answer, 1 + 3), 0x100, "offset of encryptedPayload");
        question = abi.encodeCall(IBrokerRequests.requests, (0));
        vm.assertEq(_ask(address(requests), question), _ask(address(_requestsV1), question), "same bytes, flat");
    }

    function test_getBroker_answersLikeTheField() external {
        BrokerRegistry registry = new BrokerRegistry();
        bytes memory registration = abi.encodeCall(
            IBrokerRegistry.registerBroker, (_wallet("broker"), _wallet("requests"), PUBKEY, "eu-west", 255)
        );
        _ask(address(registry), registration);
        _ask(address(_registryV1), registration);
        bytes memory question = abi.encodeCall(IBrokerRegistry.getBroker, (1));
        bytes memory answer = _ask(address(registry), question);
        vm.assertEq(answer, _ask(address(_registryV1), question), "same bytes");
        vm.assertEq(_word(answer, 1 + 2), 0x100, "offset of encryptionPubkey");
        question = abi.encodeCall(IBrokerRegistry.brokers, (0));
        vm.assertEq(_ask(address(registry), question), _ask(address(_registryV1), question), "same bytes, flat");
    }

    function _ask(address target, bytes memory question) private returns (bytes memory answer) {
        bool ok;
        (ok, answer) = target.call(question);
        vm.assertTrue(ok, "answers");
    }

    function _word(bytes memory data, uint256 index) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(data, add(32, mul(32, index))))
        }
    }

    function _is(bytes4 ours, bytes4 fixture, bytes4 published) private pure {
        vm.assertEq(bytes32(ours), bytes32(published), "ours");
        vm.assertEq(bytes32(fixture), bytes32(published), "the fixture");
    }
}
